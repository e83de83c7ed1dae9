"""What travels in a container that reads recordings and writes a table of events; imports nothing of rtserve.

Numbers and names of a contest are in ``model/detector.json`` beside this folder, written by `rtserve build`. Run as
``python3 -m detector INPUT OUTPUT``.
"""
