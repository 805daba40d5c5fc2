"""What a store has of builds: the record of each, the row of records under each name, and the manifests they lead to.

The rules: records are created and never changed; a name is a row of numbered records, the highest is its latest;
emulated and real builds have rows of their own, so that one can never become the other's latest.

| key | what |
|---|---|
| `builds/<provider>/<name>/<build id>` | a build, whether its gates passed or not |
| `names/<provider>/<name>/<number>` | what became the latest of a name, from 000001 on |
"""
