"""The differential harness: every claim of inspect-wal, verify and checkpoint against two SQLites.

Run ``python -m tests.truth [--quick] [--count N] [--seed S] [--jobs J]``, or ``--races`` for looks
beside live writers. Each history is a list of SQL steps drawn from a seed; files that a crash, a
power cut or a careless copy could leave are composed from the moments of its life.

    schemas    random tables, indexes, views and triggers, as SQL
    histories  random steps: rows, DDL, VACUUM, pragmas, checkpoints, readers, crashes
    player     a child process that plays steps on connections of one SQLite
    life       plays a history, and records the files after each step
    cuts       composes the files of a state: a crash, a power cut, a copy, damage
    log        an independent reader of the log's bytes
    oracle     two child processes, one for each SQLite, that read both views of a state
    program    the program under test, in a child process that keeps it loaded
    facts      all that is so about a state: the oracles' answers and the log's
    looks      holds inspect-wal to the facts
    checks     holds verify and checkpoint to the facts
    trial      one history from the seed to its complaints
    shrink     the shortest history and state that still fail
    twins      broken twins of the program, which the harness must catch
    races      looks beside two writers that checkpoint by themselves
"""
