"""Eager ops as machine code that Python calls as its own functions: see gradnet/ops/quick.py.

The code is written as functions of words (words.py), and compiled once for a machine.
"""

from .code import Code as Code
