"""The study: what the rule of place says about measured round trips between places with known positions.

`python -m benchmarks.study FOLDER` takes a folder with landmarks.csv and rtt.csv and leaves each landmark out in turn:
it plays the device, and the others range it. All verdicts come from verifier/place, as the server's do. Docs:
docs/protocol.md §11 and §12.
"""
