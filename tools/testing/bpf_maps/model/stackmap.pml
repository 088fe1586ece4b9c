/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How kernel/bpf/stackmap.c inserts and removes stacks, for Spin: all interleavings
 * (sequentially consistent; what weaker memory does to it is for Documentation/bpf/litmus/)
 * of a few inserters, an NMI at any step of the first one or of the one that deletes, and
 * system calls that delete, drain and read, on a map of two or three entries. `run` checks the
 * variants, `run_mutations` that broken protocols are seen.
 *
 * A stack is its number, from 1 on; an entry's two words of frames both hold it, so that a
 * mixture can be told. The first word stands for the hash too, and with FAST nothing else is
 * compared. Generations and versions count modulo more than a run can reach.
 *
 * Built with:
 *   E, H        entries, up to 3, and heads
 *   STACKS      how many different stacks there are
 *   R0, R1      what each of two inserters inserts, any stack each time
 *   ONLY0, ONLY1
 *               the one stack that this inserter inserts
 *   NMI         one insertion more, by an NMI on the CPU of inserter 0
 *   NMI_DELETE  ... on the CPU of the deleter
 *   DELETE, DRAIN, READ
 *               how many deletions, drains and reads there are, of any id each time
 *   REUSE       inserters remove another stack where the map is full
 *   FAST        inserters compare hashes only
 *   TRIES       STACK_MAP_RETRIES
 *   BUG_...     one of the mutations that run_mutations lists
 */

#ifndef E
#define E	2
#endif
#ifndef H
#define H	1
#endif
#ifndef STACKS
#define STACKS	2
#endif
#ifndef R0
#define R0	1
#endif
#ifndef R1
#define R1	1
#endif
#ifndef DELETE
#define DELETE	0
#endif
#ifndef DRAIN
#define DRAIN	0
#endif
#ifndef READ
#define READ	0
#endif
#ifndef TRIES
#define TRIES	2
#endif
#if defined(NMI) || defined(NMI_DELETE)
#define NMIS	1
#else
#define NMIS	0
#endif
#define OPS	(R0 + R1 + NMIS + DELETE + DRAIN + READ)

/* state of an entry */
#define FREE		0
#define PRIVATE		1
#define LIVE		2
#define DYING		3
#ifdef BUG_NO_GENERATION
#define GENERATION	0
#else
#define GENERATION	4
#endif
#define KIND(s)		((s) & 3)
#define NO_KIND(s)	((s) & 252)

/* a head: version and 1 + id */
#define FIRST(h)	((h) & 3)
#define NEW_HEAD(h, f)	((((h) - FIRST(h)) + 4 + (f)) & 255)
#ifdef BUG_NO_VERSION
#define LINK_HEAD(h, f)	(((h) - FIRST(h)) + (f))
#define CUT_HEAD(h, f)	LINK_HEAD(h, f)
#else
#define LINK_HEAD(h, f)	NEW_HEAD(h, f)
#ifdef BUG_NO_VERSION_CUT
#define CUT_HEAD(h, f)	(((h) - FIRST(h)) + (f))
#else
#define CUT_HEAD(h, f)	NEW_HEAD(h, f)
#endif
#endif
#define CHAIN(s)	((s) % H)

/* CPUs, as the lock knows them, and callers, as the ghosts do */
#define NOBODY		0
#define CALLERS		3

byte head[H];
byte next[E];
byte f0[E];			/* hash and frames */
byte f1[E];
byte state[E];
bool used[E];
short nr;			/* nr_entries */
byte owner = NOBODY;		/* the lock */
byte lost;
bool nmi;			/* an NMI runs */

/* ghosts: nothing in the protocol reads these */
byte name[E];			/* which stack's id this is: from link to DYING */
byte chained[E];		/* 1 + chain that it is in: from link to the change of the head */
byte call[CALLERS];		/* which stack each caller's call is about */
byte right[CALLERS];		/* ids that were this stack's since the call began, one bit each */
byte held;			/* links minus removals that are complete */
byte busy;			/* inserters between their bit and link and count, or its return */
byte missed;			/* calls that lost a stack */
byte ended;			/* operations */
byte gone;			/* what was removed last, under the lock */
byte k;				/* in d_steps only, 0 between them */

#define BIT(e)		(1 << (e))
#define FULL		(held >= E)

/* Refused where the call is nested in the section itself, or has waited in vain. */
#define TAKE_LOCK(cpu, refused)						\
	if								\
	:: atomic { owner == NOBODY -> owner = cpu }			\
	:: owner != NOBODY -> goto refused				\
	fi

/* What remove_entry() compares an entry's state with. */
#ifdef BUG_ANY_LIVE
#define MAY_REMOVE(id, from)	(KIND(state[id]) == LIVE)
#else
#define MAY_REMOVE(id, from)	(KIND(from) == LIVE && state[id] == from)
#endif

/* Under the lock; sets done. Uses st, hd and link. */
inline remove_entry(id, from)
{
	d_step {
		if
		:: MAY_REMOVE(id, from) ->
			assert(name[id] != 0);
			st = NO_KIND(state[id]);
			state[id] = st + DYING;
			gone = name[id];
			name[id] = 0;
			done = true
		:: else -> done = false
		fi
	};
	if
	:: done ->
		hd = head[CHAIN(f0[id])];
		do
		:: true ->
			d_step {
				/* the chain's end is only changed under the lock */
				if
				:: FIRST(hd) == id + 1 -> link = next[id]
				:: else ->
					link = FIRST(hd);
					k = link;
					do
					:: k != 0 ->
						if
						:: next[k - 1] == id + 1 -> next[k - 1] = next[id]
						:: else
						fi;
						k = next[k - 1]
					:: else -> break
					od;
					k = 0
				fi
			};
#ifdef BUG_GIVE_EARLY
			state[id] = (st + GENERATION + PRIVATE) & 255;
#endif
			d_step {
				if
				:: head[CHAIN(f0[id])] == hd ->
					head[CHAIN(f0[id])] = CUT_HEAD(hd, link);
					chained[id] = 0;
					hd = 0;
					link = 255
				:: else -> hd = head[CHAIN(f0[id])]
				fi
			};
			if
			:: link == 255 -> link = 0; break
			:: else
			fi
		od;
#ifndef BUG_GIVE_EARLY
		atomic { state[id] = (st + GENERATION + PRIVATE) & 255; st = 0 }
#else
		st = 0
#endif
	:: else
	fi
}

/* Of a system call. Sets done, or goes to refused. */
inline delete_entry(id, from, cpu)
{
	TAKE_LOCK(cpu, refused);
	remove_entry(id, from);
	if
	:: done ->
#ifdef BUG_COUNT_EARLY
		d_step { nr--; held-- };
#endif
		state[id] = state[id] - PRIVATE;
		used[id] = false;
#ifndef BUG_COUNT_EARLY
		d_step { nr--; held-- }
#endif
	:: else
	fi;
	d_step { took = gone; gone = 0; owner = NOBODY }
}

inline give_back(id)
{
	state[id] = state[id] - PRIVATE;
	d_step { used[id] = false; busy-- }
}

/* nr_entries >= max_entries */
#ifdef BUG_UNSIGNED
#define NO_ROOM		(nr < 0 || nr >= E)
#else
#define NO_ROOM		(nr >= E)
#endif

/* Sets own, to 1 + id, or leaves it 0; uses n and slot. */
inline take_entry(cpu)
{
	d_step { n = 0; no_room = false };
	do
	:: n == TRIES -> break
	:: else ->
		d_step {
			no_room = NO_ROOM;
			/* -ENOMEM, or removing another stack, only then */
			assert(!no_room || FULL)
		};
		if
		:: no_room -> break
		:: else
		fi;
		d_step {
			slot = 0;
			do
			:: slot < E && used[slot] -> slot++
			:: else -> break
			od;
			/* "Somebody is about to insert or to give up an entry." */
			assert(slot < E || NO_ROOM || busy > 0)
		};
		if
		:: slot == E ->
#ifdef REUSE
			no_room = true;
			break
#else
			skip
#endif
		:: slot < E ->
			d_step {
				if
				:: !used[slot] -> used[slot] = true; own = slot + 1; busy++
				:: else
				fi
			};
			if
			:: own != 0 -> state[slot] = state[slot] + PRIVATE; break
			:: else
			fi
		fi;
		n++
	od;
#ifdef REUSE
	if
	:: no_room ->
		TAKE_LOCK(cpu, not_taken);
		slot = s % E;
		n = 0;
		do
		:: n == E -> break
		:: else ->
			was = state[slot];
			remove_entry(slot, was);
			if
			:: done ->
				d_step { nr--; held--; busy++; own = slot + 1; done = false; was = 0 };
				break
			:: else ->
				d_step { n++; slot = (slot + 1) % E; was = 0 }
			fi
		od;
		gone = 0;
		owner = NOBODY
	:: else
	fi;
#endif
not_taken:
	skip;
	d_step { n = 0; slot = 0; no_room = false }
}

inline link_entry()
{
	d_step {
		if
		:: head[CHAIN(s)] == hd ->
			/* one id a stack */
			k = 0;
			do
			:: k < E -> assert(name[k] != s); k++
			:: else -> break
			od;
			k = 0;
			head[CHAIN(s)] = LINK_HEAD(hd, own);
			assert(name[own - 1] == 0 && chained[own - 1] == 0);
			name[own - 1] = s;
			chained[own - 1] = CHAIN(s) + 1;
			held++;
			do
			:: k < CALLERS ->
				if
				:: call[k] == s -> right[k] = right[k] | BIT(own - 1)
				:: else
				fi;
				k++
			:: else -> break
			od;
			k = 0;
			link = 255
		:: else
		fi
	}
}

/* Caller's call about stack s. */
inline stack_id(caller, cpu)
{
	d_step {
		call[caller] = s;
		do
		:: k < E ->
			if
			:: name[k] == s -> right[caller] = right[caller] | BIT(k)
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0
	};
retry:
	if
	:: d_step { tries == TRIES -> hd = 0 }; goto fail
	:: d_step { tries < TRIES -> tries++; hd = head[CHAIN(s)]; link = FIRST(hd) }
	fi;
	do
	:: link == 0 -> break
	:: else ->
		st = state[link - 1];
		nx = next[link - 1];
		hit = f0[link - 1] == s;
#ifndef FAST
		hit = hit && f1[link - 1] == s;
#endif
#ifdef BUG_DYING_HIT
		hit = hit && KIND(st) != FREE;
#elif defined(BUG_PRIVATE_MISS)
		hit = hit && KIND(st) == LIVE;
#else
		hit = hit && (KIND(st) == LIVE || KIND(st) == PRIVATE);
#endif
#if defined(BUG_NO_RECHECK)
		skip;
#else
#ifdef BUG_PRIVATE_UNCHECKED
		if
		:: hit && KIND(st) == PRIVATE -> goto hit_it
		:: else
		fi;
#endif
		if
		:: d_step {
			head[CHAIN(s)] != hd ->
			link = 0; nx = 0; st = 0; hit = false
		   }; goto retry
		:: d_step {
			head[CHAIN(s)] == hd ->
			/* the walk is where it believes to be */
			assert(chained[link - 1] == CHAIN(s) + 1)
		   }
		fi;
#endif
		if
		:: hit ->
hit_it:
			if
			:: KIND(st) == PRIVATE ->
				d_step {
#ifdef BUG_LIVE_ANYWAY
					if
					:: true -> state[link - 1] = st + 1
#else
					if
					:: state[link - 1] == st -> state[link - 1] = st + 1
					:: else
#endif
					fi
				}
			:: else
			fi;
			d_step { st = 0; nx = 0; hit = false; hd = 0 };
			goto found
		:: else
		fi;
		d_step { link = nx; nx = 0; st = 0 }
	od;
	if
	:: own == 0 ->
		take_entry(cpu);
		if
		:: own == 0 ->
			if
#ifndef BUG_FULL_ANYWAY
			:: head[CHAIN(s)] != hd -> goto retry
#endif
			:: d_step {
				else ->
				/* nobody is refused room for what is there already */
				do
				:: k < E -> assert(name[k] != s); k++
				:: else -> break
				od;
				k = 0
			   }; goto fail
			fi
		:: else
		fi;
		f0[own - 1] = s;
		f1[own - 1] = s
	:: else
	fi;
	next[own - 1] = FIRST(hd);
	st = state[own - 1];
#ifdef BUG_COUNT_FIRST
	nr++;
#endif
	link_entry();
	if
	:: link == 255
	:: else ->
		st = 0;
#ifdef BUG_COUNT_FIRST
		nr--;
#endif
		goto retry
	fi;
	d_step {
#ifndef BUG_COUNT_FIRST
		nr++;
#endif
		busy--
	};
	d_step {
		if
		:: state[own - 1] == st -> state[own - 1] = st + 1
		:: else
		fi;
		st = 0; link = own; own = 0; hd = 0
	};
found:
	if
	:: own != 0 ->
#ifndef BUG_LEAK
		give_back(own - 1)
#endif
	:: else
	fi;
	d_step {
		assert(right[caller] & BIT(link - 1));
		link = 0
	};
	goto out;
fail:
	if
	:: own != 0 -> give_back(own - 1)
	:: else
	fi;
	d_step { lost++; missed++ };
out:
	skip;
	d_step {
		call[caller] = 0; right[caller] = 0;
		own = 0; hd = 0; tries = 0; link = 0; ended++; s = 0
	}
}

#define LOCALS	byte s, hd, link, nx, st, own, n, slot, tries, was;	\
		bool hit, no_room, done

inline pick(from, to)
{
	select(s : from .. to)
}

#ifdef NMI
proctype inserter0() provided (!nmi)
#else
proctype inserter0()
#endif
{
	LOCALS;
	byte todo = R0;

	do
	:: todo > 0 ->
		todo--;
#ifdef ONLY0
		s = ONLY0;
#else
		pick(1, STACKS);
#endif
		stack_id(0, 1)
	:: else -> break
	od
}

#if R1 > 0
proctype inserter1()
{
	LOCALS;
	byte todo = R1;

	do
	:: todo > 0 ->
		todo--;
#ifdef ONLY1
		s = ONLY1;
#else
		pick(1, STACKS);
#endif
		stack_id(1, 2)
	:: else -> break
	od
}
#endif

#if NMIS > 0
proctype nmi0()
{
	LOCALS;

	nmi = true;
	pick(1, STACKS);
	stack_id(2, 1);
	nmi = false
}
#endif

#if DELETE > 0
#ifdef NMI_DELETE
proctype deleter() provided (!nmi)
#else
proctype deleter()
#endif
{
	byte id, st, hd, link, was, took, todo = DELETE;
	bool done;

	do
	:: todo > 0 ->
		todo--;
		select(id : 0 .. E - 1);
		was = state[id];
		delete_entry(id, was, 3);
refused:
	skip;
		d_step { id = 0; was = 0; took = 0; done = false; ended++ }
	:: else -> break
	od
}
#endif

#if DRAIN > 0
proctype drainer()
{
	byte id, st, hd, link, took, todo = DRAIN, from, was, a, b;
	bool done;

	do
	:: todo > 0 ->
		todo--;
		select(id : 0 .. E - 1);
		atomic { from = state[id]; was = name[id] };
		if
		:: KIND(from) != LIVE -> goto out
		:: else
		fi;
		a = f0[id];
		b = f1[id];
		if
		:: NO_KIND(state[id]) != NO_KIND(from) -> goto out
		:: else
		fi;
		if
		:: goto out			/* the user's page is not there */
		:: true
		fi;
		delete_entry(id, from, 4);
		/* what is gone by this call is what was handed out */
		assert(!done || (a == took && b == took));
refused:
		skip;
out:
		skip;
		d_step { id = 0; from = 0; was = 0; took = 0; a = 0; b = 0; done = false; ended++ }
	:: else -> break
	od
}
#endif

#if READ > 0
proctype reader()
{
	byte id, st, was, a, b, todo = READ;

	do
	:: todo > 0 ->
		todo--;
		select(id : 0 .. E - 1);
		atomic { st = state[id]; was = name[id] };
		if
		:: KIND(st) != LIVE -> goto out
		:: else
		fi;
		a = f0[id];
		b = f1[id];
#ifndef BUG_READ_ONCE
		if
		:: NO_KIND(state[id]) != NO_KIND(st) -> goto out
		:: else
		fi;
#endif
		assert(was != 0 && a == was && b == was);
out:
	skip;
		d_step { id = 0; st = 0; was = 0; a = 0; b = 0; ended++ }
	:: else -> break
	od
}
#endif

/* When all is over, what is used is what is linked, and counted. */
init
{
	byte h, e, link, linked, bits;

	atomic {
		run inserter0();
#if R1 > 0
		run inserter1();
#endif
#if NMIS > 0
		run nmi0();
#endif
#if DELETE > 0
		run deleter();
#endif
#if DRAIN > 0
		run drainer();
#endif
#if READ > 0
		run reader()
#endif
	};
	ended == OPS;
	d_step {
		do
		:: h < H ->
			link = FIRST(head[h]);
			do
			:: link != 0 ->
				assert(KIND(state[link - 1]) == LIVE && CHAIN(name[link - 1]) == h);
				assert(f0[link - 1] == name[link - 1]);
				linked++;
				link = next[link - 1]
			:: else -> break
			od;
			h++
		:: else -> break
		od;
		do
		:: e < E ->
			if
			:: used[e] -> bits++
			:: else -> assert(KIND(state[e]) == FREE && name[e] == 0)
			fi;
			e++
		:: else -> break
		od;
		assert(linked == bits && linked == nr && linked == held);
		assert(busy == 0 && lost == missed && owner == NOBODY)
	}
}
