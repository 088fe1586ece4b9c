/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How kernel/bpf/queue_stack_maps.c pushes to a queue and pops from it, for Spin: all
 * interleavings (sequentially consistent; what weaker memory does to it is for
 * Documentation/bpf/litmus/) of two producers, two consumers and an NMI at any step of one of
 * them, each with a lock for its side and a view of the other side's count. `run` checks the
 * variants, `run_mutations` that broken protocols are seen.
 *
 * A value is its number, from 1 on, in the order in which pushes take effect; so pops must give
 * them in this order, except for those that BPF_EXIST dropped. It is two words, so that a
 * mixture can be told. A lock may be refused at any time instead of waited for.
 *
 * Built with:
 *   CAP         capacity
 *   R0, R1      how many pushes each producer does
 *   P0, P1      how many pops or peeks, any each time, each consumer does
 *   EXIST       pushes are with BPF_EXIST or without, any each time
 *   NMI_PUSH    one push by an NMI on the CPU of consumer 0
 *   NMI_POP     one pop by an NMI on the CPU of producer 0
 *   BUG_...     one of the mutations that run_mutations lists
 */

#ifndef CAP
#define CAP	1
#endif
#ifndef R0
#define R0	1
#endif
#ifndef R1
#define R1	1
#endif
#ifndef P0
#define P0	1
#endif
#ifndef P1
#define P1	1
#endif
#if defined(NMI_PUSH) || defined(NMI_POP)
#define NMIS	1
#else
#define NMIS	0
#endif
#define OPS	(R0 + R1 + P0 + P1 + NMIS)

/* CPUs, as the locks know them */
#define NOBODY	0

byte a[CAP];			/* a value's words */
byte b[CAP];
byte in_lock, in_slot, in_done, in_other;
byte out_lock, out_slot, out_done, out_other;
bool nmi;			/* an NMI runs */

/* ghosts: nothing in the protocol reads these */
byte pushed;			/* values that push has published, dropped ones included */
byte gone;			/* those that were popped or dropped: the first ones */
byte ended;

/* Refused where this CPU has it, or has waited in vain. */
#define TAKE(lock, cpu, refused)						\
	if									\
	:: atomic { lock == NOBODY -> lock = cpu }				\
	:: lock != NOBODY -> goto refused					\
	fi

#define GIVE(lock)	lock = NOBODY

inline slot_after(slot)
{
	slot = (slot + 1) % CAP
}

/* Uses seen, room and exist. */
inline push(cpu)
{
	if
#ifdef EXIST
	:: exist = true
#endif
	:: exist = false
	fi;
#ifndef BUG_NO_LOCK
	TAKE(in_lock, cpu, push_refused);
#endif
	room = CAP - (in_done - in_other);
	if
	:: room == 0 ->
#ifndef BUG_STALE_ROOM
		d_step {
			in_other = out_done;
			room = CAP - (in_done - in_other);
			/* full, as of now */
			assert(room != 0 || pushed - gone == CAP)
		};
#endif
		skip
	:: else
	fi;
	if
	:: room != 0 ->
#ifdef BUG_PUBLISH_EARLY
		d_step { in_done++; pushed++ };
		a[in_slot] = in_done;
		b[in_slot] = in_done;
#else
		a[in_slot] = in_done + 1;
		b[in_slot] = in_done + 1;
#endif
		slot_after(in_slot);
#ifndef BUG_PUBLISH_EARLY
		d_step { in_done++; pushed++ }
#endif
	:: else ->
		/* -E2BIG must be the truth at some time of the call: the assertion above */
#ifdef BUG_STALE_ROOM
		assert(pushed - gone == CAP);
#endif
		if
		:: exist ->
#ifndef BUG_DROP_UNLOCKED
			/* never waits for one lock while it has the other one */
			if
			:: atomic { out_lock == NOBODY -> out_lock = cpu }
			:: out_lock != NOBODY ->
				GIVE(in_lock);
				TAKE(out_lock, cpu, push_refused);
				if
				:: atomic { in_lock == NOBODY -> in_lock = cpu }
				:: in_lock != NOBODY -> GIVE(out_lock); goto push_refused
				fi
			fi;
#endif
			in_other = out_done;
#ifdef BUG_DROP_ANYWAY
			if
			:: true ->
#else
			if
			:: in_done - in_other < CAP ->
				a[in_slot] = in_done + 1;
				b[in_slot] = in_done + 1;
				slot_after(in_slot);
				d_step { in_done++; pushed++ };
				out_other = in_done
			:: else ->
#endif
				a[in_slot] = in_done + 1;
				b[in_slot] = in_done + 1;
				slot_after(in_slot);
				in_done++;
				in_other++;
#ifndef BUG_VIEW_BEHIND
				out_other = in_done;
#endif
				slot_after(out_slot);
				d_step {
					assert(pushed - gone == CAP);
					/* as far as pops and pushes can tell, both at once */
					pushed++;
					gone++;
					out_done++
				}
			fi;
			GIVE(out_lock)
		:: else
		fi
	fi;
#ifndef BUG_NO_LOCK
	GIVE(in_lock);
#endif
push_refused:
	skip;
	d_step { room = 0; exist = false; ended++ }
}

/* Uses x, y, remove and nr. */
inline pop(cpu)
{
	if
	:: remove = true
	:: remove = false
	fi;
	TAKE(out_lock, cpu, pop_refused);
	nr = out_other - out_done;
	if
	:: nr == 0 ->
#ifdef BUG_STALE_EMPTY
		assert(pushed == gone);
#else
		d_step {
			out_other = in_done;
			nr = out_other - out_done;
			/* empty, as of now */
			assert(nr != 0 || pushed == gone)
		};
#endif
		skip
	:: else
	fi;
	if
	:: nr != 0 ->
#ifdef BUG_GIVE_EARLY
		if
		:: remove -> d_step { out_done++; gone++ }
		:: else
		fi;
#endif
		x = a[out_slot];
		y = b[out_slot];
#ifdef BUG_GIVE_EARLY
		assert(x == y && (x == gone || !remove));
		if
		:: remove -> slot_after(out_slot)
		:: else
		fi;
#else
		/* the oldest of those that are there, whole */
		assert(x == y && x == gone + 1 && x <= pushed);
		if
		:: remove ->
			slot_after(out_slot);
			d_step { out_done++; gone++ }
		:: else
		fi;
#endif
		d_step { x = 0; y = 0 }
	:: else
	fi;
	GIVE(out_lock);
pop_refused:
	skip;
	d_step { nr = 0; remove = false; ended++ }
}

#define PUSH_LOCALS	byte todo, room; bool exist
#define POP_LOCALS	byte todo, nr, x, y; bool remove

#ifdef NMI_POP
proctype producer0() provided (!nmi)
#else
proctype producer0()
#endif
{
	PUSH_LOCALS;

	do
	:: todo < R0 -> todo++; push(1)
	:: else -> break
	od
}

#if R1 > 0
proctype producer1()
{
	PUSH_LOCALS;

	do
	:: todo < R1 -> todo++; push(2)
	:: else -> break
	od
}
#endif

#ifdef NMI_PUSH
proctype consumer0() provided (!nmi)
#else
proctype consumer0()
#endif
{
	POP_LOCALS;

	do
	:: todo < P0 -> todo++; pop(3)
	:: else -> break
	od
}

#if P1 > 0
proctype consumer1()
{
	POP_LOCALS;

	do
	:: todo < P1 -> todo++; pop(4)
	:: else -> break
	od
}
#endif

#ifdef NMI_PUSH
proctype nmi0()
{
	PUSH_LOCALS;

	nmi = true;
	push(3);
	nmi = false
}
#endif

#ifdef NMI_POP
proctype nmi0()
{
	POP_LOCALS;

	nmi = true;
	pop(1);
	nmi = false
}
#endif

/* When all is over, what is there is what was pushed and is not gone. */
init
{
	byte i;

	atomic {
		run producer0();
#if R1 > 0
		run producer1();
#endif
		run consumer0();
#if P1 > 0
		run consumer1();
#endif
#if NMIS > 0
		run nmi0()
#endif
	};
	ended == OPS;
	d_step {
		assert(in_lock == NOBODY && out_lock == NOBODY);
		assert(in_done == pushed && out_done == gone && pushed - gone <= CAP);
		assert(in_slot == pushed % CAP && out_slot == gone % CAP);
		/* a view behind is looked at again; one ahead, or too far behind, is believed */
		assert(in_other <= out_done && out_other <= in_done);
		assert(out_other >= out_done && in_done - in_other <= CAP);
		i = gone;
		do
		:: i < pushed ->
			assert(a[i % CAP] == i + 1 && b[i % CAP] == i + 1);
			i++
		:: else -> break
		od
	}
}
