"""Mail to those whom the inventory names (``notifications_mail_to``), by the environment's topic."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from twinops.approval import text_without_secrets

from pipeline import access, playbook


def send(env: str, subject: str, text: str, *, log: Path) -> None:
    """Tell people. A mail that cannot be sent does not hide why it was to be sent: that is said in the log."""
    with tempfile.NamedTemporaryFile("w", prefix="twinops-mail-", suffix=".txt", encoding="utf-8") as message:
        message.write(text_without_secrets(text))
        message.flush()
        extra = json.dumps({"subject": subject, "text_file": message.name})
        code = playbook.run("playbooks/tell.yml", env, "-e", extra, role=access.PLAN, log=log)
    print(f"mail: {subject}" if code == 0 else f"mail: could not be sent (exit code {code}): {subject}")
