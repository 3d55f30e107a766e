"""What other services put into a subnet has a network interface there: until it is gone, subnet and groups stay."""

from __future__ import annotations

from sandbox.emulator import ec2, moto_bridge


def check(subnet_id: str, group_ids: list[str]) -> str | None:
    """What is wrong with a place for a guest; None when it can be put there."""
    with ec2.LOCK:
        backend = moto_bridge.backend("ec2")
        subnets = {key: subnet for zone in backend.subnets.values() for key, subnet in zone.items()}
        if subnet_id not in subnets:
            return f"The subnet ID '{subnet_id}' does not exist"
        for group_id in group_ids:
            group = backend.get_security_group_from_id(group_id)
            if group is None or group.vpc_id != subnets[subnet_id].vpc_id:
                return f"The security group '{group_id}' does not exist in VPC {subnets[subnet_id].vpc_id}"
        return None


def join(guest_arn: str, subnet_id: str, group_ids: list[str]) -> str:
    """Give a guest its network interface, and return that one's id."""
    with ec2.LOCK:
        backend = moto_bridge.backend("ec2")
        subnet = backend.get_subnet(subnet_id)
        address = subnet.get_available_subnet_ip(guest_arn)
        interface = backend.create_network_interface(subnet, address, group_ids=group_ids, description=guest_arn)
        return str(interface.id)


def leave(guest_arn: str) -> None:
    """Remove what ``join`` made."""
    if not ec2.used():
        return
    with ec2.LOCK:
        interfaces = moto_bridge.backend("ec2").enis
        for interface in [one for one in interfaces.values() if one.description == guest_arn]:
            interfaces.pop(interface.id)
