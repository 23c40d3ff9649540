"""The store: reads the dataset, makes results durable. The only door to h5py."""
