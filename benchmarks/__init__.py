"""The benchmark suites: workloads, the peers beside ours, the runs, and what they report.

`gradnet bench SUITE` runs them from a checkout; they are not part of the installed package.
"""
