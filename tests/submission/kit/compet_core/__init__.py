"""The name that the kit's base class had before."""
