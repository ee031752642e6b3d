"""The benchmarks: `make bench`. Each file measures one thing; the peer runs in the same run."""
