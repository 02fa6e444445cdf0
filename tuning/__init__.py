"""A KerasTuner search for the endpoints and weights of the auxiliary heads.

`python -m tuning.search DATA` runs it, `python -m tuning.report DIR` writes its report
again; `hypermodel.HeadsHyperModel` works with any KerasTuner tuner. See
`tuning/README.md`.

    search              the command: runs a search and prints its result
    options             its command line
    plan                data, network, space, choices and directory, from the options
    settings            one setting of the heads, for people, KerasTuner and `train`
    space               the settings that a search may try
    hypermodel          a setting as a compiled model
    crash_safe_oracles  KerasTuner's oracles, which choose the settings
    tuner               trains the chosen settings with every seed, shows the progress
    workers             a chief and several workers on one machine
    results             the trials, their noise, trials.csv and best.json
    report              report.html with its conclusions, and report.png
"""
