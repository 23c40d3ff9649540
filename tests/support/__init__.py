"""What tests share: a user's project, doubles of disks and of CUDA, planning problems."""
