"""hpcens: score large HDF5 datasets with ensembles of PyTorch networks, over MPI."""

__version__ = "0.1.0"
