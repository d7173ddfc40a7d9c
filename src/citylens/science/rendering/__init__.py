"""Made-up cities: what stands where, and how a camera at a spot sees it."""
