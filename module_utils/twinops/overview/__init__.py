"""What the status page shows of an environment, as one JSON document (docs/interfaces.md, "Status document"). Pure.

``aws/overview.py`` reads the sources, this package says what they mean, ``page/`` draws it.
"""
