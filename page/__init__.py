"""The status page: one HTML file, made of the status documents of some environments (docs/status-page.md).

It knows nothing of AWS or Ansible; what it is given is plain JSON (docs/interfaces.md, "Status document").
"""
