"""Which images a report shows, where the network looked on them, and how it sees them all."""
