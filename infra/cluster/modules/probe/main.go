// Command probe is what the cluster's own check and tests/cluster run in pods: one static program without a shell.
//
//	probe serve PORT                 answer HTTP with the pod's name
//	probe dial -want open|refused [-for 60s] HOST:PORT
//	probe resolve [-for 20s] NAME    print a name's addresses
//	probe eat MIB                    take that much memory and keep it
//	probe sleep                      do nothing until told to end
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	pause  = 200 * time.Millisecond // between two attempts
	inARow = 10                     // attempts with the wanted outcome: two seconds, longer than a policy takes to bite
)

// How long one attempt may take. What a policy refuses is dropped without a word, and only waiting tells. What is let
// through is judged packet by packet in user space, which on a loaded machine can take longer than the first SYN waits.
var patience = map[string]time.Duration{"open": 5 * time.Second, "refused": time.Second}

func main() {
	if len(os.Args) < 2 {
		fail("probe: say what to do: serve, dial, resolve, eat or sleep")
	}
	arguments := os.Args[2:]
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	want := flags.String("want", "open", "open or refused")
	limit := flags.Duration("for", time.Minute, "how long to try")
	_ = flags.Parse(arguments)
	argument := flags.Arg(0)
	switch os.Args[1] {
	case "serve":
		serve(argument)
	case "dial":
		dial(argument, *want, *limit)
	case "resolve":
		fmt.Println(resolve(argument, *limit))
	case "eat":
		eat(argument)
	case "sleep":
		sleep()
	default:
		fail("probe: unknown: " + os.Args[1])
	}
}

func serve(port string) {
	name, _ := os.Hostname()
	go func() {
		err := http.ListenAndServe(":"+port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, name)
		}))
		fail(err.Error())
	}()
	sleep()
}

// dial ends well when inARow attempts had the wanted outcome. A name that has no address is never taken for a refusal.
func dial(address, want string, limit time.Duration) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || (want != "open" && want != "refused") {
		fail("probe: dial -want open|refused HOST:PORT")
	}
	end := time.Now().Add(limit)
	target := net.JoinHostPort(resolve(host, limit)[0], port)
	seen, last := 0, ""
	for time.Now().Before(end) {
		connection, err := net.DialTimeout("tcp", target, patience[want])
		outcome := "open"
		if err == nil {
			_ = connection.Close()
		} else {
			outcome = "refused"
		}
		if outcome != last {
			fmt.Println(target, outcome, err)
			last = outcome
			seen = 0
		}
		seen++
		if outcome == want && seen == inARow {
			return
		}
		time.Sleep(pause)
	}
	fail(fmt.Sprintf("probe: %s was wanted %s, and is %s after %s", target, want, last, limit))
}

func resolve(name string, limit time.Duration) []string {
	end := time.Now().Add(limit)
	for {
		found, err := net.DefaultResolver.LookupHost(context.Background(), name)
		if err == nil {
			return found
		}
		if time.Now().After(end) {
			fail(err.Error())
		}
		time.Sleep(pause)
	}
}

func eat(amount string) {
	mib, err := strconv.Atoi(amount)
	if err != nil {
		fail("probe: eat MIB")
	}
	kept := make([][]byte, 0, mib)
	for range mib {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	fmt.Println("holding", len(kept), "MiB")
	sleep()
}

func sleep() {
	done := make(chan os.Signal, 1)
	signal.Notify(done, syscall.SIGTERM, syscall.SIGINT)
	<-done
	os.Exit(0)
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
