"""What travels inside a submission: a plan (JSON), its tensors, and the few files here that run it.

The standard library and torch only, unchanged from torch 2.2 to 2.13 and Python 3.10 to 3.13.
"""
