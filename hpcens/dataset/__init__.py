"""Read the dataset: files, tables and selections of rows, decompressed once."""
