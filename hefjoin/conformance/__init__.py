"""The conformance kit: ask any SDK and device the same questions, and tell two sets of answers apart.

What the vendor's compiler does is known to us from public documents only, and the emulator is built on them. This is
how the first person with a licence can say where that is wrong: `record` makes an archive of everything that a fixed
set of small networks shows, `compare` says in what two archives differ. The one rule: observe and write down; nothing
that an SDK does ends a recording.
"""
