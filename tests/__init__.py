"""What must stay true, shown: the rooms mirror the packages; the lab runs real hosts."""
