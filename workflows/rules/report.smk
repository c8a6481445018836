# Figures (PNG and SVG) and one self-contained page.


rule report:
    input:
        "state/analyse.json",
        settings="config/report.json",
    output:
        "state/report.json",
    log:
        "logs/report.log",
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * (1 + attempt),
        runtime=lambda wildcards, attempt: 30 * attempt,
    shell:
        "exec {SCIENCEVAE} report ."
        " --threads {threads}"
        " >> {log:q} 2>&1"
