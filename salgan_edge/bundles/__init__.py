"""The default bundle is installed here, in ``default/``."""
