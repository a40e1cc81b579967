"""The chaos run: the whole product under a seeded storm, and a checker that shares no code with its deciding.

script.py    a seed -> episodes of plans and faults     stage.py     the product, behind two lines that lose answers
acts.py      what each fault does                       player.py    plays episodes, waits for calm, probes
evidence.py  what everybody wrote down                  gathering.py reads it, from files and by plain SQL
orders.py    I1-I5, I7, I13, I15, I16 (checker)         books.py     I11, I12 (checker)
ends.py      I6, I8, I9, I14, I17, untouched (checker)  checker.py   all of it, as named findings
good.py      a small world in which all is well: for the tests of the checker

python -m tests.chaos --seed 7 --plans 40 [--json]
"""
