"""Networks, masks and label maps: what two or more stages compute with."""
