"""Loop templates that the kernels are generated from."""
