/* SPDX-License-Identifier: GPL-2.0 */
/* How a test tells its programs from all else that calls getpgid(). */
#ifndef __STACKMAP_FORGED_H
#define __STACKMAP_FORGED_H

#define NR_SLOTS 4

/* The system call sees a process that does not exist; programs see the whole register. */
#define FORGED_MAGIC 0x57ac4a9
#define FORGED_PID(slot) ((long)FORGED_MAGIC << 32 | 0x7ffffff0 | (slot))
#define IS_FORGED_PID(arg) ((unsigned long)(arg) >> 32 == FORGED_MAGIC)
#define FORGED_SLOT(arg) ((arg) & (NR_SLOTS - 1))

#endif
