"""Runs the PTX that a GPU would load, on the CPU: every thread of a launch at once, in NumPy.

text          what a PTX text says: kernels, parameters, variables, instructions
arithmetic    what instructions compute, on NumPy's arrays
emit          arithmetic as Python
choices       bits, comparisons and choices as Python
moves         moves and conversions as Python
blocks        a kernel as functions, one for each stretch of instructions without a branch
memory        global, shared and local memory, and the accesses that are wrong
races         who touches memory with nothing that orders it after others
tensor        instructions that a warp computes together
exchange      instructions by which blocks tell each other numbers
machine       threads, their registers and their memory
turns         in which order threads take turns
launching     launches as the library's launcher makes them
counts        instructions, bytes and sectors of a launch

A text with an instruction that is not known raises, and so does whatever a GPU would leave
undefined: see `memory.Fault`.
"""
