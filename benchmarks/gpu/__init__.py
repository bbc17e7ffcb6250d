"""The stages of `python -m benchmarks.gpu_check`: each a process, each with a report of its own.

probe        what the machine is, and its ceilings
correctness  the tests and comparisons with float64 NumPy, on the device
speed        training steps, ours beside the peers
sanitizers   NVIDIA's checkers of memory and races on small kernels
"""
