"""The entry point of an image: waits in a pod for its server, locks itself down, becomes the runner.

Its environment is what it is given: see `pod.surroundings`.
"""
