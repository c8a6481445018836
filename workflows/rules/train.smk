# One variant's model. `exec`, so that a signal reaches the training itself: SIGUSR1 saves and goes on,
# SIGTERM saves and exits 75. The checkpoint is no declared output: a retry in a new job resumes from it.


def before_training(wildcards):
    """The prepared data, and of variants that share a training the first, which trains."""
    own = VARIANTS[wildcards.variant]
    first = next(
        name for name, keys in VARIANTS.items() if keys["trained"] == own["trained"]
    )
    shared = [] if first == wildcards.variant else [f"state/train/{first}.json"]
    return [f"state/prepare/{own['prepare']}.json", *shared]


rule train:
    input:
        before_training,
        settings="config/{variant}/train.json",
    output:
        "state/train/{variant}.json",
    log:
        "logs/train/{variant}.log",
    threads: lambda wildcards: VARIANTS[wildcards.variant]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * (1 + attempt),
        runtime=lambda wildcards, attempt: 240 * attempt,
    shell:
        "exec {SCIENCEVAE} train ."
        " --variant {wildcards.variant:q}"
        " --threads {threads}"
        " >> {log:q} 2>&1"
