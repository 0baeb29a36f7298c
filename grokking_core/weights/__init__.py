"""Numbers from the weights of one network. No training, no files.

`ends` has what is kept of a run's end; `structure` tests the output rows that are kept, for number lines
(`number_line`) or cosets (`cosets`), by each element's `neighbours`; `spectra` has those of weight matrices.
`sharpness` asks for SciPy, the others do not.
"""
