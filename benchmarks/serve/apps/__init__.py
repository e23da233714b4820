"""What the servers of the benchmark run. Each file is read in the environment of its own server."""
