# SPDX-License-Identifier: MIT
# fish completion for portledger. What there is to complete is read from the program's own help, and values of filters from
# what the daemon has seen, by -F. Those are other people's bytes: fish inserts them quoted.

# The words so far, without the one in hand.
function __portledger_words
    commandline -opc
end

# Asks the daemon that the command line names, for a moment at most.
function __portledger_ask
    set -l words (__portledger_words)
    set -l socket
    set -l before
    for word in $words
        string match -q -- '--socket=*' $word; and set socket $word
        test "$before" = --socket; and set socket --socket=$word
        set before $word
    end
    timeout 2 $words[1] $socket $argv --no-pager 2>/dev/null </dev/null
end

# Letter, name, "=" where it takes a value, and what it is: tab-separated, of a verb ('': all). Every option is asked for it, each
# time that one is to be completed: the program is not.
function __portledger_options
    string match -qr '^[a-z]*$' -- "$argv"; or return
    set -l kept __portledger_options_of_"$argv"
    set -q $kept; or set -g $kept (
        portledger help $argv 2>/dev/null | string match -r '^  (?:-[A-Za-z]|  )(?: --[a-z-]+=?\S*)? +.*$' |
            string replace -r '^  (?:-([A-Za-z])|  )(?: --([a-z-]+)(=?)\S*)? +(.*)$' '$1\t$2\t$3\t$4')
    string join \n -- $$kept
end

function __portledger_verbs
    portledger help 2>/dev/null | string match -r '^  [a-z]+ .*$' | string match -rv '^  portledger ' |
        string replace -r '^  ([a-z]+)(?: [^a-z ]\S*| FILE\S*| \[.*\])* +(.*)$' '$1\t$2'
end

# The first word that is no option and no option's value; a port is explain's.
function __portledger_verb
    set -l words (__portledger_words)
    set -l skip
    for word in $words[2..-1]
        if test -n "$skip"
            set skip
        else if string match -q -- '-*' $word
            string match -q -- '*=*' $word; and continue
            for option in (__portledger_options)
                set -l parts (string split \t -- $option)
                if test "$parts[3]" = '='; and test "$word" = --$parts[2] -o "$word" = -$parts[1]
                    set skip yes
                end
            end
        else if string match -qr '^[0-9]' -- $word
            echo explain
            return 0
        else
            echo $word
            return 0
        end
    end
    return 1
end

function __portledger_takes
    set -l verb (__portledger_verb)
    for option in (__portledger_options $verb)
        set -l parts (string split \t -- $option)
        test "$parts[2]" = "$argv[1]" -o "$parts[1]" = "$argv[1]"; and return 0
    end
    return 1
end

# Does the verb take ports? Its line in the help says so.
function __portledger_takes_ports
    set -l verb (__portledger_verb); or return 1
    portledger help 2>/dev/null | string match -rv '^  portledger ' | string match -q -- "  $verb *PORT*"
end

function __portledger_ports
    begin
        __portledger_ask now -F port
        __portledger_ask history -S -24h -n 1000 -F port
    end | sort -un
end

function __portledger_columns
    set -l verb (__portledger_verb)
    switch "$verb"
        case audit
            set verb audit -S -1min
        case now history
            set verb $verb -n 1
        case who follow explain ''
            set verb now -n 1
    end
    __portledger_ask $verb --csv | head -n 1 | string trim | string split ,
end

function __portledger_values
    switch $argv[1]
        case app
            __portledger_ask audit -S -24h -F comm
        case unit user
            __portledger_ask audit -S -24h -F $argv[1]
        case pid
            __portledger_ask now -F pid
        case netns
            __portledger_ask now -F netns_name
        case addr
            __portledger_ask now -F local_address
        case peer
            __portledger_ask now -F remote_address
        case field columns
            __portledger_columns
        case proto
            printf '%s\n' tcp udp udplite mptcp
        case role
            printf '%s\n' connected listening bound accepted
        case range
            printf '%s\n' iana kernel
        case by
            printf '%s\n' program unit user port hour netns
        case diff
            printf '%s\n' yesterday 'last week' 'last night'
        case format
            printf '%s\n' ndjson csv sqlite
        case fields
            printf '%s\n' eve ek zeek
        case json
            printf '%s\n' pretty short off
        case color
            printf '%s\n' auto always never
        case at since until
            printf '%s\n' now today yesterday 'last night' -1h -24h
    end
end

complete -c portledger -f
complete -c portledger -n 'not __portledger_verb >/dev/null' -a '(__portledger_verbs)'
complete -c portledger -n 'test "$(__portledger_verb)" = help' -a '(__portledger_verbs)'
complete -c portledger -n __portledger_takes_ports -a '(__portledger_ports)'
complete -c portledger -n 'test "$(__portledger_verb)" = app' -a '(__portledger_ask audit -S -24h -F comm; __portledger_ask apps -F name)'
for __portledger_option in (__portledger_options)
    set -l parts (string split \t -- $__portledger_option)
    set -l names
    test -n "$parts[1]"; and set -a names -s $parts[1]
    test -n "$parts[2]"; and set -a names -l $parts[2]
    set -l name (test -n "$parts[2]"; and echo $parts[2]; or echo $parts[1])
    set -l value
    if test "$parts[3]" = '='
        switch "$name"
            case socket config to output cursor-file
                set value -r -F
            case '*'
                set value -x -a "(__portledger_values $name)"
        end
    end
    complete -c portledger -n "__portledger_takes $name" $names $value -d "$parts[4]"
end
set -e __portledger_option
