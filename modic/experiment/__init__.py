"""The paper's experiment: four grey-level normalizations, the same folds of patients for each, and tests that hold.

`design` says what a study compares, `folder` reads and checks the data, `split` divides the patients into folds, `fold`
trains one fold, `results` puts finished folds together, `significance` tests differences, `findings` says them in
words, and `report` writes them up beside the `published` numbers of the paper. `synthetic` makes a cohort to do it on,
`simulation` shows how often each test finds a difference although there is none. README.md beside this file says how to
run it.
"""
