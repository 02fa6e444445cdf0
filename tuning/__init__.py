"""Where should the heads sit, and how much should they weigh? KerasTuner looks.

An application of the library: `python -m tuning.search DATA`. See `tuning/README.md`.
"""
