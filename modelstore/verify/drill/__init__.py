"""The drill's parts: `acts` asks its three questions, `processes` runs the program and a reader.

`modelstore.verify.checks.drill` plays the acts and makes the findings.
"""
