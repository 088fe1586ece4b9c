/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reservation protocol of kernel/bpf/ringbuf.c, for Spin: all interleavings (sequentially
 * consistent; what weaker memory does to it is for Documentation/bpf/litmus/) of two
 * producers, an NMI on the CPU of the first at any of its steps, and a consumer, on a ring
 * of a few slots. `run` checks the variants, `run_mutations` that broken protocols are seen.
 *
 *      T        Q            P              S          T + N - 1
 *      |        |            |              |              |
 *      v        v            v              v              v
 *   ---+--------+------------+--------------+--------------+---
 *      | done   | records    | stamped busy | old contents |
 *
 * consumer_pos is at T or beyond, up to P; a hostile one is anywhere. Whether the owner stamps
 * a window is left open in each reservation. Where P == S it writes the header before it
 * moves P; here that is a stamp, which is a header that reads as busy, too.
 * A slot is 8 bytes; a record is a header slot and payload slots. All positions count slots,
 * modulo M, and start shortly before M, so that they wrap.
 *
 * What a slot holds is a word: its kind, and the number of the record that wrote it. Records are
 * numbered in the order of their reservation (the ghost nres), so that the consumer knows
 * which one must come next. A payload is taken to read as any header at all: whoever reads
 * one as a header has failed.
 *
 * Built with:
 *   N, M        slots in the ring; modulus of positions (powers of two, and M over twice what
 *               all records take)
 *   WIN         slots stamped ahead
 *   R0, R1      records of each producer
 *   SMALL, LARGE, MIDDLE
 *               their sizes in slots, each record any of them; MIDDLE may be left out
 *   NMI         one record more, reserved and committed by an NMI
 *   WALK        headers that the owner walks over in one hold
 *   HOSTILE     no consumer; every read of consumer_pos returns anything
 *   OVERWRITE   overwrite mode
 *   BUG_...     one of the mutations that run_mutations lists
 */

#ifndef N
#define N	4
#endif
#ifndef M
#define M	(8 * N)
#endif
#ifndef WIN
#define WIN	1
#endif
#ifndef R0
#define R0	2
#endif
#ifndef R1
#define R1	2
#endif
#ifndef SMALL
#define SMALL	1
#endif
#ifndef LARGE
#define LARGE	3
#endif
#ifndef WALK
#define WALK	2
#endif
#ifndef START
#define START	(M - 2)
#endif
#ifdef NMI
#define RECORDS	(R0 + R1 + 1)
#else
#define RECORDS	(R0 + R1)
#endif

#if M < 2 * (RECORDS * LARGE + N)
#error "positions would wrap into each other: take a larger M"
#endif

#define ADD(a, b)	(((a) + (b)) & (M - 1))
#define SUB(a, b)	(((a) - (b)) & (M - 1))		/* as unsigned long */
#define BEFORE(a, b)	(SUB(a, b) >= M / 2)		/* (long)(a - b) < 0 */
#define AT(p)		((p) & (N - 1))
#define ROOM		(N - 1)

/* words: kind in the low two bits, record number above; 0 is a fresh page */
#define PAYLOAD(id)	((id) * 4)
#define STAMP		1
#define BUSY_HDR(id)	((id) * 4 + 2)
#define DONE_HDR(id)	((id) * 4 + 3)
#define KIND(w)		((w) & 3)
#define ID(w)		((w) >> 2)
#define IS_BUSY(w)	(KIND(w) == 1 || KIND(w) == 2)
#define IS_DONE(w)	(KIND(w) == 3)

#define NOBODY		0

byte w[N];			/* the data pages */
byte P = START;			/* producer_pos */
byte S = START;			/* stamped */
byte T = START;			/* tail; in overwrite mode overwrite_pos */
byte Q = START;			/* pending */
byte cons = START;		/* consumer_pos */
byte owner = NOBODY;		/* the lock: 1 + CPU */
byte lost;			/* refusals counted */
byte dropped;			/* overwrite mode: dropped before the consumer passed them */
bool woken;			/* the consumer was woken */
bool nmi;			/* an NMI runs on CPU 0 */

/* ghosts: nothing in the protocol reads these */
byte nres;			/* records reserved */
byte nref;			/* attempts refused */
byte ended;			/* attempts that came to their end */
byte size[RECORDS + 1];		/* of each record */
byte live[N];			/* which record nobody else may touch this slot for */

/* Who reads a position that user space writes gets anything, if that is a HOSTILE one. */
#ifdef HOSTILE
#define READ_CONS(to)	atomic { select(to : 0 .. M - 1) }
#else
#define READ_CONS(to)	to = cons
#endif

/* Was there truly no room at some time between the lock and the refusal? */
#if defined(HOSTILE) || defined(OVERWRITE)
#define NOTE_FULL()	skip
#define CHECK_FULL()	skip
#else
#define NOTE_FULL()	was_full = was_full || SUB(ADD(P, slots), cons) > ROOM
#define CHECK_FULL()	assert(was_full)
#endif

inline set_live(from, many, who)
{
	i = 0;
	do
	:: i < many ->
		assert(live[AT(from + i)] == 0 || who == 0);
		live[AT(from + i)] = who;
		i++
	:: else -> break
	od;
	i = 0
}

/* try_cmpxchg_release(&producer_pos, &pos, end): sets id if it was won */
inline move_producer()
{
	d_step {
		if
		:: P == pos ->
			P = end;
			nres++;
			id = nres;
			size[id] = slots;
			set_live(pos, slots, id);
			assert(SUB(P, T) <= ROOM)
		:: else
		fi
	}
}

inline stamp(at)
{
	d_step {
		assert(live[AT(at)] == 0);
		w[AT(at)] = STAMP
	}
}

inline take_lock(cpu)
{
	if
	:: atomic { owner == NOBODY -> owner = cpu }
#ifdef BUG_NMI_ENTERS
	:: atomic { owner == cpu -> nested = true }
#else
	:: atomic { owner == cpu -> goto refused }
#endif
	fi
}

inline drop_lock()
{
	d_step {
		if
		:: nested -> nested = false
		:: else -> owner = NOBODY
		fi;
		end = 0; c = 0; ns = 0; done = 0; stamped = false; cut = false; n = 0;
		was_full = false
	}
}

/* Reserve as many slots at pos as record id; refused: id is 0. */
inline reserve(cpu)
{
	d_step { id = 0; pos = P };
	limit = S;
	do
	:: atomic { BEFORE(limit, ADD(pos, slots)) -> limit = 0; goto slow }
	:: else ->
		end = ADD(pos, slots);
		move_producer();
		if
		:: atomic { id != 0 -> limit = 0; end = 0; goto reserved }
		:: else -> pos = P
		fi
	od;

slow:
	take_lock(cpu);
again:
	skip;
#ifdef BUG_CONS_FIRST
	READ_CONS(c);
	NOTE_FULL();
#endif
	d_step { pos = P; end = ADD(pos, slots); NOTE_FULL() };
	/* walk over committed records */
	do
	:: d_step { Q == pos -> cut = false }; break
	:: d_step { Q != pos && n == WALK -> cut = true }; break
	:: d_step { Q != pos && n < WALK && IS_BUSY(w[AT(Q)]) -> cut = false }; break
	:: d_step {
		Q != pos && n < WALK && !IS_BUSY(w[AT(Q)]) ->
		assert(IS_DONE(w[AT(Q)]));
		Q = ADD(Q, size[ID(w[AT(Q)])]);
		n++
	   }
	od;
	n = 0;
	if
	:: ns = ADD(end, WIN)
	:: ns = end
	fi;
	if
	:: SUB(ns, T) <= ROOM -> c = 0; goto room
	:: else
	fi;
#ifndef BUG_CONS_FIRST
	READ_CONS(c);
	NOTE_FULL();
#endif
	atomic {
		n = T;
		if
#ifdef BUG_NO_CONS_CHECK
		:: true ->
#else
		:: SUB(c, T) <= SUB(pos, T) ->
#endif
			if
#ifdef BUG_PAST_PENDING
			:: true -> T = c
#else
			:: SUB(c, T) <= SUB(Q, T) -> T = c
			:: else -> T = Q
#endif
			fi
		:: else
		fi;
		/* a position outside of the ring frees nothing */
		assert(T == n || SUB(c, n) <= SUB(P, n));
		n = 0;
		c = 0
	};
	if
	:: SUB(end, T) > ROOM ->
		if
		:: cut -> drop_lock(); goto slow
#ifndef BUG_REFUSE_STALE
		/*
		 * Others moved producer_pos, up to S at most. What they reserved may have been
		 * consumed already: then c is beyond pos, and was taken for nonsense.
		 */
		:: !cut && P != pos -> goto again
#endif
		:: else
		fi;
		d_step { NOTE_FULL(); CHECK_FULL() };
		drop_lock();
		goto refused
	:: else
	fi;
#ifndef BUG_WINDOW_UNBOUNDED
	d_step {
		if
		:: BEFORE(ADD(T, ROOM), ns) -> ns = ADD(T, ROOM)
		:: else
		fi
	};
#endif
room:
	cut = false;
#ifndef BUG_NO_STAMP_AT_P
	if
	:: pos == S -> stamp(pos)
	:: else
	fi;
#endif
	d_step {
		if
		:: !stamped -> done = S; stamped = true
		:: else
		fi;
		if
		:: BEFORE(done, end) -> c = end
		:: else -> c = done
		fi
	};
	do
	:: BEFORE(c, ns) -> stamp(c); c = ADD(c, 1)
	:: else -> break
	od;
	skip;
	d_step {
		if
		:: BEFORE(done, ns) -> done = ns
		:: else
		fi;
		c = 0
	};
#ifdef BUG_EARLY_LIMIT
	S = done;
#endif
	move_producer();
	if
	:: id == 0 -> goto again
	:: else
	fi;
	d_step {
		assert(!BEFORE(done, S) && !BEFORE(done, P));
		S = done
	};
	drop_lock();
	goto reserved;
refused:
	skip;
	d_step { lost++; pos = 0; end = 0 };
reserved:
	skip
}

/* The same in overwrite mode. */
inline reserve_overwriting(cpu)
{
	id = 0;
	take_lock(cpu);
	d_step { pos = P; end = ADD(pos, slots); ns = T; assert(S == P) };
	READ_CONS(c);
	do
	:: SUB(end, ns) > ROOM && IS_BUSY(w[AT(ns)]) ->
		/* nothing was dropped for a reservation that fails */
		assert(!cut);
		drop_lock();
		goto refused
	:: d_step {
		SUB(end, ns) > ROOM && !IS_BUSY(w[AT(ns)]) ->
		assert(IS_DONE(w[AT(ns)]) && ns != pos);
		ns = ADD(ns, size[ID(w[AT(ns)])]);
		if
		:: BEFORE(c, ns) -> n++
		:: else
		fi;
#ifdef BUG_DROP_EARLY
		T = ns;
		cut = true
#endif
	   }
	:: SUB(end, ns) <= ROOM -> break
	od;
	skip;
#ifndef BUG_DROP_LATE
	T = ns;
#endif
	/* This slot is no record's: one is always free. */
	stamp(pos);
	move_producer();
	assert(id != 0);
#ifdef BUG_DROP_LATE
	T = ns;
#endif
	d_step { dropped = dropped + n; n = 0 };
	S = P;
	drop_lock();
	goto reserved;
refused:
	skip;
	d_step { lost++; pos = 0; end = 0 };
reserved:
	skip
}

/* Write record id at pos and commit it. */
inline commit()
{
	d_step {
		/* the slot read as busy, and as nobody's, until now */
		assert(w[AT(pos)] == STAMP && live[AT(pos)] == id);
		w[AT(pos)] = BUSY_HDR(id)
	};
	d_step {
		i = 1;
		do
		:: i < slots ->
			assert(live[AT(pos + i)] == id);
			w[AT(pos + i)] = PAYLOAD(id);
			i++
		:: else -> break
		od;
		i = 0
	};
#ifdef BUG_WAKE_EARLY
	limit = cons;
#endif
	d_step {
		assert(w[AT(pos)] == BUSY_HDR(id));
		i = 1;
		do
		:: i < slots -> assert(w[AT(pos + i)] == PAYLOAD(id)); i++
		:: else -> break
		od;
		i = 0;
		w[AT(pos)] = DONE_HDR(id);
#if defined(HOSTILE) || defined(OVERWRITE)
		set_live(pos, slots, 0)
#endif
	};
	d_step {
#ifndef BUG_WAKE_EARLY
		limit = cons;
#endif
		if
		:: limit == pos -> woken = true
		:: else
		fi;
		limit = 0; pos = 0
	}
}

#define LOCALS	byte slots, id, pos, end, limit, c, n, ns, done, i;	\
		bool cut, stamped, nested, was_full

inline pick_size()
{
	if
	:: slots = SMALL
	:: slots = LARGE
#ifdef MIDDLE
	:: slots = MIDDLE
#endif
	fi
}

inline attempt(cpu)
{
#ifdef OVERWRITE
	reserve_overwriting(cpu);
#else
	reserve(cpu);
#endif
	if
	:: id != 0 -> commit()
	:: else -> nref++
	fi;
	d_step { id = 0; slots = 0; ended++ }
}

#ifdef NMI
proctype producer0() provided (!nmi)
#else
proctype producer0()
#endif
{
	LOCALS;
	byte todo = R0;

	do
	:: todo > 0 ->
		todo--;
		pick_size();
		attempt(1)
	:: else -> break
	od
}

#if R1 > 0
proctype producer1()
{
	LOCALS;
	byte todo = R1;

	do
	:: todo > 0 ->
		todo--;
		pick_size();
		attempt(2)
	:: else -> break
	od
}
#endif

#ifdef NMI
proctype nmi0()
{
	LOCALS;

	nmi = true;
	pick_size();
	attempt(1);
	nmi = false
}
#endif

/* Sleeps after having seen no record, or a busy one, at c; any wakeup since then counts. */
#define SLEEP(c)								\
	if									\
	:: atomic { woken -> woken = false }					\
	:: ended == RECORDS && c == P -> break					\
	fi

#ifdef HOSTILE
proctype judge()
{
	ended == RECORDS;
	assert(lost == nref && nres + nref == RECORDS);
	assert(owner == NOBODY)
}
#elif defined(OVERWRITE)
proctype consumer()
{
	byte c = START, word, got, last, i;
	bool torn;

	do
	:: d_step { c == P -> word = 0 } -> SLEEP(c)
	:: c != P ->
		word = w[AT(c)];
		if
		:: BEFORE(c, T) -> goto overtaken
		:: else
		fi;
		if
		:: IS_BUSY(word) -> word = 0; SLEEP(c)
		:: else ->
			assert(IS_DONE(word));
			i = 1;
			do
			:: i < size[ID(word)] ->
				torn = torn || w[AT(c + i)] != PAYLOAD(ID(word));
				i++
			:: else -> break
			od;
			i = 0;
#ifndef BUG_NO_RECHECK
			if
			:: BEFORE(c, T) -> goto overtaken
			:: else
			fi;
#endif
			d_step {
				assert(!torn && ID(word) > last);
				last = ID(word);
				got++;
				c = ADD(c, size[ID(word)]);
				word = 0;
				cons = c
			}
		fi;
		goto next;
overtaken:
		skip;
		d_step { c = T; cons = T; torn = false; word = 0; i = 0 };
next:
		skip
	od;
	assert(got + dropped >= nres && got <= nres);
	assert(lost == nref && nres + nref == RECORDS);
	assert(owner == NOBODY)
}
#else
proctype consumer()
{
	byte c = START, p, word, got, i;

	do
	:: d_step { c == P -> p = 0 } -> SLEEP(c)
	:: d_step { c != P -> p = P };
		do
		:: c != p ->
			word = w[AT(c)];
			if
			:: IS_BUSY(word) -> word = 0; p = 0; SLEEP(c); break
			:: else
			fi;
			d_step {
				/* reservation order, each once, never what was there before */
				assert(IS_DONE(word) && ID(word) == got + 1);
				i = 1;
				do
				:: i < size[ID(word)] ->
					assert(w[AT(c + i)] == PAYLOAD(ID(word)));
					i++
				:: else -> break
				od;
				i = 0
			};
			d_step {
				got++;
				set_live(c, size[got], 0);
				c = ADD(c, size[got]);
				cons = c;
				word = 0
			}
		:: else -> p = 0; break
		od
	od;
	assert(got == nres && lost == nref && nres + nref == RECORDS);
	assert(owner == NOBODY)
}
#endif

/* Fresh pages read as committed records: the first window is stamped before it is shown. */
init
{
	byte at = START;

	atomic {
#ifndef OVERWRITE

		S = ADD(START, (WIN < ROOM -> WIN : ROOM));
		do
		:: at != S ->
#ifndef BUG_FRESH_PAGES
			w[AT(at)] = STAMP;
#endif
			at = ADD(at, 1)
		:: else -> break
		od;
		at = 0;
#endif
		run producer0();
#if R1 > 0
		run producer1();
#endif
#ifdef NMI
		run nmi0();
#endif
#ifdef HOSTILE
		run judge()
#else
		run consumer()
#endif
	}
}
