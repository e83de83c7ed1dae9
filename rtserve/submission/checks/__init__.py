"""The rules by family: RT0 archive, RT1 entry script, RT2 model files, RT3 run, RT4 parity and provenance, RT5 container."""
