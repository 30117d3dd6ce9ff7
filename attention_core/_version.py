"""The version, in the source so that it is known without installed metadata."""

__all__ = ["__version__"]

__version__ = "0.1.0"
