"""Building and signing releases on the control host: standard library and python-tuf."""
