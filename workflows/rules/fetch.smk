# Raw files into the cache. Downloads run beside the workflow itself, because the nodes of a cluster often have
# no internet; simulations run as jobs.


def variant_with(part):
    """The first variant whose raw or prepared data have this key."""
    return lambda wildcards: next(
        name for name, keys in VARIANTS.items() if keys[part] == wildcards.key
    )


rule fetch:
    input:
        "config/fetch/{key}.json",
    output:
        "state/fetch/{key}.json",
    log:
        "logs/fetch/{key}.log",
    params:
        variant=variant_with("fetch"),
    threads: 1
    shell:
        "exec {SCIENCEVAE} fetch ."
        " --variant {params.variant:q}"
        " --threads {threads}"
        " >> {log:q} 2>&1"


rule simulate:
    input:
        "config/fetch/{key}.json",
    output:
        "state/simulate/{key}.json",
    log:
        "logs/simulate/{key}.log",
    params:
        variant=variant_with("fetch"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * (1 + attempt),
        runtime=lambda wildcards, attempt: 120 * attempt,
    shell:
        "exec {SCIENCEVAE} fetch ."
        " --variant {params.variant:q}"
        " --threads {threads}"
        " >> {log:q} 2>&1"
