"""The rows of keys and of tenants; a change of either raises one epoch, by which every process reads both again."""

EPOCH = "keys"
