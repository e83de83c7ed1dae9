"""Graphs as native code: a plan becomes one C file, which the system's compiler builds and ctypes loads.

    plan --flow--> what one window goes through --writer--> C --build--> .so + .json + .weights --load--> NativeModule

Windows of a batch are computed one by one, so that what a window goes through stays in the caches; a graph whose answer
depends on a window's neighbours is therefore none of its.
"""
