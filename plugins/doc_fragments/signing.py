"""What modules that sign the TUF repository take: ``extends_documentation_fragment: [aws, signing]``."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the keys are, and where the repository is."""

    DOCUMENTATION = r"""
options:
  keys:
    description: Folder with the private keys of this host, C(<name>.pem).
    type: path
    required: true
  public_keys:
    description: Folder with the public keys of everybody, C(<name>.pub), and the pinned root of trust, C(root.json).
      By default I(keys).
    type: path
  repository:
    description: Folder for the copy of the TUF repository on this host.
    type: path
    required: true
  bucket:
    description: The bucket for models; by default the one of the environment in the caller's account.
    type: str
"""
