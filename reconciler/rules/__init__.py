"""The rules: pure functions that turn values into values. They use no clock, no disk and no network.

Start with `table`, which says what each observed status means. The other modules are

    matching      finds the record of each job of the manifest, by the engine job id
    records       finds the column of the table for a job, and makes the record after a call
    configs       compares configs, and words their differences
    observations  words an observation
    decide        makes the decision about one job
    order         holds a run until the jobs in its `after` have completed
    circles       finds circles in `after`, and all jobs that come before a job
    actions       makes a plan from the decisions about all jobs
    guards        refuses a plan that does too much
    lost_calls    says what an observation proves about a call whose answer was lost
    drift         compares records with observations
    review        puts a plan or a drift report together for the views
    adoption      chooses which jobs of the service `import` adopts
    naming        finds the record that a user means by a name
"""
