"""The paper's experiment: four normalizations, the same folds of patients for each, and statistics that hold.

`design` says what is asked, `data` reads and checks it, `folds` deals patients, `training` does one fold, `results`
puts finished folds together, `statistics` compares, `report` writes it up beside the `paper`'s numbers. `synthetic` is
a cohort to do it on, `simulation` shows how often each test finds a difference where there is none.
"""
