"""The scorer's calls, made inside the sandbox by a process of its own.

This folder is copied next to the submission and run by the environment's own Python (3.10 or newer). It needs the
standard library and the torch it finds there, and nothing of rtserve. What it sees goes back as signed lines over a
pipe that is not stdout; it judges nothing.
"""
