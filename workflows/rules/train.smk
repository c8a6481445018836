# One variant's model. `exec`, so that a signal reaches the training itself: SIGUSR1 saves and goes on,
# SIGTERM saves and exits 75. The checkpoint is no declared output: a retry in a new job resumes from it.


FIRST = {}  # of the variants that share a training
for name, keys in VARIANTS.items():
    FIRST.setdefault(keys["trained"], name)


def before_training(wildcards):
    """The prepared data, and of variants that share a training the first, which trains."""
    own = VARIANTS[wildcards.variant]
    first = FIRST[own["trained"]]
    shared = [] if first == wildcards.variant else [f"state/train/{first}.json"]
    return [f"state/prepare/{own['prepare']}.json", *shared]


def of_variant(key):
    """What the settings of a job's variant say."""
    return lambda wildcards: VARIANTS[wildcards.variant][key]


# Of a Slurm job; on one machine the ranks share what `threads` says. Only said where it has to be: in a group of
# trainings both are added up, and multiplied by Slurm.
RANKS = (
    {"tasks": of_variant("ranks"), "cpus_per_task": of_variant("threads")}
    if any(keys["ranks"] > 1 for keys in VARIANTS.values())
    else {}
)


rule train:
    input:
        before_training,
        settings="config/{variant}/train.json",
    output:
        "state/train/{variant}.json",
    log:
        "logs/train/{variant}.log",
    params:
        threads=of_variant("threads"),
        ranks=of_variant("ranks"),
    threads:
        lambda wildcards: (
            VARIANTS[wildcards.variant]["threads"] * VARIANTS[wildcards.variant]["ranks"]
        )
    resources:
        # of a node, on which all ranks may be
        mem_mb=lambda wildcards, attempt: (
            1500 * (1 + attempt) * VARIANTS[wildcards.variant]["ranks"]
        ),
        runtime=lambda wildcards, attempt: 240 * attempt,
        **RANKS,
    shell:
        "exec {SCIENCEVAE} train ."
        " --variant {wildcards.variant:q}"
        " --threads {params.threads}"
        " --ranks {params.ranks}"
        " >> {log:q} 2>&1"
