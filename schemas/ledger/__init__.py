"""What is true: epochs, files, versions and leases, and the transactions that change them."""
