"""Score large HDF5 datasets with ensembles of PyTorch networks, over MPI.

Every folder is a noun; imports only go to lines further down.

    cli          the command line, one module a family of verbs
    launch       start ranks, here or through Slurm, each with a witness
    scoring      one start of a run, as one rank lives it
    reports      what people read: text, pages, progress
    planning     from profiles to a plan
    profiling    measure members, links and disks, and keep the figures
    checks       refuse what cannot work before anything starts
    combining    from members' outputs to what is stored
    runtimes     ways to execute a member
    engine       the devices that execute members: found, opened, fed
    result       the file that is written: durable, journalled, finished
    dataset      the files that are read: selected, decompressed
    transports   carry messages, over MPI or in virtual time
    roles        who decides what: reader, reducer, worker; no I/O
    allocation   allocation matrices and their bounds
    members      networks from their files
    config       run.yaml, read and checked
    rules        combine members' outputs; pure
    runs         everything of one run on disk but its result
    vocabulary   plain data: devices, segments, messages, profiles, plans
    scheduler    Slurm's own commands, each with a time limit
    specs        what a user asks for
    usercode     code of the user's own: found, imported, digested
    arrays       memory that outlives a pass
    processes    which process lives; questions put to one of their own
    cache        what can be made again, kept for the next start
    files        written whole or not at all
    ownership    whose a file is: only one's own are trusted
    errors       exit codes, and messages that say what to do
    shell        words for shells and terminals: quoted, escaped, refused
    entry        how a process begins: the working folder is kept off its path
"""

__version__ = "0.1.0"
