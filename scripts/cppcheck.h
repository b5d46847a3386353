/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What cppcheck is shown in place of the macros of uthash, queue.h, jansson, libbpf and cmocka, whose headers it does not read: what goes in,
 * and what is set. Not compiled.
 */

void *of(const void *container, ...);
void put(void *container, ...);

#define HASH_FIND(hh, head, key, size, ret)     ((ret) = of(head, key, size))
#define HASH_FIND_STR(head, key, ret)           ((ret) = of(head, key))
#define HASH_ITER(hh, head, at, next)           for ((at) = of(head), (next) = of(at); (at); (at) = (next), (next) = of(next))
#define HASH_ADD(hh, head, member, size, item)  put(&(head), item)
#define HASH_ADD_STR(head, member, item)        put(&(head), item)
#define HASH_ADD_KEYPTR(hh, head, key, size, i) put(&(head), i, key)
#define HASH_DEL(head, item)                    put(&(head), item)
#define HASH_DELETE(hh, head, item)             put(&(head), item)
#define HASH_SORT(head, compare)                put(&(head), compare)

#define TAILQ_HEAD(name, type)           struct name { struct type *first, **last; }
#define TAILQ_ENTRY(type)                struct { struct type *next, **previous; }
#define TAILQ_FOREACH(at, head, member)  for ((at) = of(head); (at); (at) = of(at))
#define TAILQ_FIRST(head)                of(head)
#define TAILQ_LAST(head, name)           of(head)
#define TAILQ_NEXT(at, member)           of(at)
#define TAILQ_EMPTY(head)                (!of(head))
#define TAILQ_INIT(head)                 put(head)
#define TAILQ_INSERT_TAIL(head, item, m) put(head, item)
#define TAILQ_REMOVE(head, item, member) put(head, item)
#define TAILQ_CONCAT(head, other, m)     put(head, other)
#define LIST_HEAD(name, type)            struct name { struct type *first; }
#define LIST_ENTRY(type)                 struct { struct type *next, **previous; }
#define LIST_FOREACH(at, head, member)   for ((at) = of(head); (at); (at) = of(at))
#define LIST_INIT(head)                  put(head)
#define LIST_INSERT_HEAD(head, item, m)  put(head, item)
#define LIST_REMOVE(item, member)        put(item)

#define json_array_foreach(array, i, value)                for ((i) = 0; ((value) = of(array, i)); (i)++)
#define json_object_foreach(object, key, value)            for ((key) = of(object); (key) && ((value) = of(object, key)); (key) = of(key))
#define json_object_foreach_safe(object, next, key, value) json_object_foreach(object, key, value)

#define LIBBPF_OPTS(type, name, ...) struct type name = {__VA_ARGS__}

#define cmocka_unit_test(test)                           {#test, test}
#define cmocka_unit_test_setup_teardown(test, up, down)  {#test, test, up, down}
#define assert_non_null(pointer)                         assert(pointer)
