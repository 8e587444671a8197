"""The papers that the suite rests on, reproduced claim by claim: experiments, pictures and claims as data.

* What a paper is: `experiments` of `settings`, with `claims` about `quantities`, of all seeds or of `seed_groups`, and
  what is `added` to the curves `from_checkpoints`. `loss_plateau`, `matrix_completion` and `shortening` are three;
  `circuits` and `theory` are made alike, and no paper's.
* How it is run: `running` trains what is missing, `side_by_side` on an engine of sweeps, `pretrained` measures what
  others trained, a `study` what has been trained, `costs` says what that takes, `storage` keeps the curves;
  `same_runs` tells whether what is there is what is asked for.
* What is told of it: `results` writes the pages from `paper_results`, with a person's `remarks`: `results_page`,
  `statements_page`, in `markdown`, with `pictures`.
"""
